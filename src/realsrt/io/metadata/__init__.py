"""What lies beside the pixels: EXIF, XMP, PNG text, ICC profiles, provenance."""
