"""What each format's files hold: pure functions between values and bytes."""
