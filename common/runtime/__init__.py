"""How the parties' processes run: lives, logs, a full disk, progress, pauses."""
