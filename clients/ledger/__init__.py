"""A site's own privacy ledger (README.md): what it may spend on each of its users, what it spent, what is left."""

from clients.ledger.budget import Budget
from clients.ledger.entries import PURPOSES, Asked, Book, Debit
from clients.ledger.ledger import Balance, Ledger
from clients.ledger.place import open_ledger

__all__ = ["PURPOSES", "Asked", "Balance", "Book", "Budget", "Debit", "Ledger", "open_ledger"]
