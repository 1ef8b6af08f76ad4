"""conf/ composed and checked: every choice a user makes, typed, and what makes it legal."""
