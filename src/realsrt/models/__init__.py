"""Networks, each beside its frozen config dataclass. A config's ``build()`` makes the module."""
