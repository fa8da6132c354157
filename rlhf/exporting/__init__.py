"""A trained model for others: whole or as an adapter, in the formats that other programs load, with a card that says
what it is.
"""
