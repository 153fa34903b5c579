"""What people see of a result: a line, a text, an HTML view, a frame and a plot; results call these when asked to show themselves."""
