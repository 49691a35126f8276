"""A text-to-image masked transformer: Chang et al., "Muse" (2023)."""
