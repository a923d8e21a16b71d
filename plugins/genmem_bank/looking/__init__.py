"""What is in a bank: in words, as pictures, nearest rows."""
