"""The league's settings: what they are, how they are read, and which contradict each other."""
