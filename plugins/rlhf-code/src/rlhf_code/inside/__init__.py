"""What runs on the far side of the sandbox's wall. The standard library only: nothing else is installed there."""
