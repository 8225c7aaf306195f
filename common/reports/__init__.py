"""What people read about a run: one HTML report in two languages, and a model card."""

from common.reports.card import model_card
from common.reports.html import write_report
from common.reports.samples import PictureSource
from common.reports.story import Story, read_story

__all__ = ["PictureSource", "Story", "model_card", "read_story", "write_report"]
