"""The only place that knows MLflow: what a run left behind goes in, figures and pages come out.

`recorder` sends finished records, `reader` reads them back, `report` and `figures` make the pages,
`ui` opens the MLflow page at the right view. MLflow is imported inside functions only.
"""
