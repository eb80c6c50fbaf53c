"""JPEG frames and mask PNGs: decode, encode and draw them; free of torch."""
