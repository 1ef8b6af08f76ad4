"""What all pages share: how numbers are written, templates, drawings, pictures, colours."""
