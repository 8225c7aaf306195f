"""What differential privacy costs: mechanisms and their composition (`common.privacy.accounting`)."""
