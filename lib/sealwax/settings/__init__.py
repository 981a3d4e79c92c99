"""What options are made of: frozen groups, checks, lenses; and which of them cannot act yet."""
