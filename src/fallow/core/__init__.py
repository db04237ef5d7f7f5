"""The subsampler and its parts: which samples each epoch trains on, exactly resumable, without files."""
