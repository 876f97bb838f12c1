"""The compression study: files of bytes beside JPEG, WebP and AVIF, and what the indices in them cost."""
