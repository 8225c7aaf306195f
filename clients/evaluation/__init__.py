"""Evaluation at a site: who is asked, what is scored, what is compared, what is written."""
