"""Shared by all reports: number formats, templates, charts, images and colours."""
