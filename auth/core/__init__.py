"""Rules of logins and tokens, apart from any transport."""
