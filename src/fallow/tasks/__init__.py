"""What is trained: images, texts, language models, as Lightning modules with their data."""
