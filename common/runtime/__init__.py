"""How the parties' processes run: starting and stopping, logs, a full disk, progress, pauses."""
