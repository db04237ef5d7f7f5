"""The tasks that fallow trains (images, texts, language models): Lightning modules and their data."""
