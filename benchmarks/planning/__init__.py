"""How near plans come to what happens on this machine."""
