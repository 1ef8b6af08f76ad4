"""Two runs side by side: is the second worse, by how much, on which questions, and why?"""
