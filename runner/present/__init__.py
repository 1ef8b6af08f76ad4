"""Shared by all reports: number formats, templates, plots, strips, images and colours."""
