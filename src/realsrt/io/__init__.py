"""Image files, their formats and metadata; files that are whole or absent. No torch here."""
