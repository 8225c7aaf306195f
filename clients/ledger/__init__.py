"""A site's own privacy ledger (README.md): the budget per user, what was spent, and what is left."""

from clients.ledger.budget import Budget
from clients.ledger.entries import PURPOSES, Book, Charge, Debit
from clients.ledger.ledger import Balance, Ledger
from clients.ledger.place import open_ledger

__all__ = ["PURPOSES", "Balance", "Book", "Budget", "Charge", "Debit", "Ledger", "open_ledger"]
