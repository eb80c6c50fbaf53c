// Click on a column's head sorts its table; the page is whole without this.
for (const table of document.querySelectorAll("table.sortable")) {
  for (const head of table.tHead.rows[0].cells) {
    if (!head.dataset.sort) continue;
    const button = document.createElement("button");
    button.append(...head.childNodes);
    head.append(button);
    button.addEventListener("click", () => {
      const up = head.getAttribute("aria-sort") !== "ascending";
      for (const other of table.tHead.rows[0].cells) other.removeAttribute("aria-sort");
      head.setAttribute("aria-sort", up ? "ascending" : "descending");
      const value = (row) => row.cells[head.cellIndex].dataset.value ?? "";
      const compare = (a, b) => head.dataset.sort === "number" ? a - b : a.localeCompare(b);
      const body = table.tBodies[0];
      const known = [...body.rows].filter((row) => value(row) !== "");
      const unknown = [...body.rows].filter((row) => value(row) === "");
      known.sort((a, b) => compare(value(a), value(b)) * (up ? 1 : -1));
      body.append(...known, ...unknown);
    });
  }
}
