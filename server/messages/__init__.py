"""Asking sites: push, poll, send again, and judge each reply."""
