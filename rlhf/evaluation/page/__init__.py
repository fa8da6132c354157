"""The report's page: templates, style, and how figures are written on it."""
