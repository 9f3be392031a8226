"""What people look at: the report page with its trace reader, the plots as files, and the model card of an export.

safe.py        hostile text made harmless
rates.py       the rates of a report, and several seeds as one
comparison.py  the table and the plot of a comparison of methods
run.py         what a workdir holds
units.py       token ids to stretches of text that can be shown one by one
book.py        the traces of runs, as the reader of the page takes them
drawing.py     one figure to SVG and PNG
charts.py      which figures there are of one run, or of several side by side
page.py        the HTML file
static/        the page's style sheet and script
card.py        the model card
"""
