"""Tables, figures, the HTML report and progress bars."""
