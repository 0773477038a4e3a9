"""Brightness by ITU-R BT.601. Free of torch, as files are read by it too."""

BT601 = (0.299, 0.587, 0.114)
