"""The Space: the project in a browser, one file a tab."""
