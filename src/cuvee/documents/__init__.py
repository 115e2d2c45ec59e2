"""Files that people write for Cuvée, read strictly and with their lines; and files of ours, replaced whole."""
