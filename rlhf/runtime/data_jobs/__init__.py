"""Work over files larger than memory, block by block, here or on Ray Data: check, convert, curate, generate, grade."""
