"""What a conversation is made of: incoming messages, the human's side, onboarding, reservations, contexts."""
