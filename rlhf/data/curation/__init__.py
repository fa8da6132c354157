"""What is found in rows of data: blocks of a file, words, duplicates, contamination, languages, faults and balance."""
