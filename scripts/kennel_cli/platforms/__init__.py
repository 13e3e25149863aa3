"""Where jobs and endpoints run; each platform takes the same requests."""
