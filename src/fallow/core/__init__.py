"""The subsampler: which samples are trained on in each epoch, exactly resumable. It knows no files."""
