"""What a request of one function looks like, by the JSON Schema of its row: what the parts of a
form stand for, the body that is a field as it is, the declared example with its files, a row made
up, and the curl line that sends it.

    shown_rows ─▶ examples, curl_lines ─▶ form_values

Called by ``runtime.graph`` beside it, by ``execution``, ``http`` and the commands; runs nothing.
"""
