"""Pages that a person looks at: one HTML file each, made of what a search left behind, with nothing to fetch."""
