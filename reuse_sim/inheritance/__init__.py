"""Inheritance: does the outer model answer with the human it was given?"""
