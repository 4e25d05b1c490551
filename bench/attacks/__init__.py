"""Attacks on the real service, judged by what honest clients notice of them."""
