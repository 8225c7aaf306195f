"""The hash-chained, signed log and its verification."""

from common.audit.log import AuditError, AuditLog, Entry, Receipt, verify

__all__ = ["AuditError", "AuditLog", "Entry", "Receipt", "verify"]
