/* How the search orders what it finds: a command or flag by its own name first, then headings, then text.
   Sphinx puts this file into its own script (html_search_scorer) and asks `score` for each result. */
var Scorer = {
  objNameMatch: 11,
  objPartialMatch: 6,
  objPrio: { 0: 15, 1: 5, 2: -5 },
  objPrioDefault: 0,
  title: 15,
  partialTitle: 7,
  term: 5,
  partialTerm: 2,

  // Anchors of the reference page -> the title of the section.
  _sections: null,
  _titleOf(docname, anchor) {
    if (!this._sections) {
      const page = Search._index.docnames.indexOf(docname);
      this._sections = new Map();
      for (const [title, places] of Object.entries(Search._index.alltitles))
        for (const [file, id] of places) if (file === page && id) this._sections.set(id, title);
    }
    const [, command, flag] = anchor.match(/^#(.+?)(--.+)$/) || [];
    if (this._sections.has(anchor.slice(1))) return this._sections.get(anchor.slice(1));
    return this._sections.has(command) ? `${this._sections.get(command)} ${flag}` : null;
  },

  score(result) {
    const [docname, , anchor, , score, , kind] = result;
    if (kind !== "index" || docname !== "reference") return score;
    const title = this._titleOf(docname, anchor);
    if (!title) return score;
    // The result is shown with the command's name instead of the page's.
    result[1] = title;
    // 100 means that the whole name was searched for. Of several, the shorter one comes first: `plan`, then `types plan`.
    // A name that only contains the query comes after the headings.
    return score === 100 ? 1000 - title.split(" ").length : score / 10;
  },
};
