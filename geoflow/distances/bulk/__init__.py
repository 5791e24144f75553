"""Many rows at once: tables of distances, neighbours, landmarks, workers."""
