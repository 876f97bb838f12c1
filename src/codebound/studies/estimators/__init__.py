"""The estimators study: which gradient, and is any worth it in the linear case?"""
