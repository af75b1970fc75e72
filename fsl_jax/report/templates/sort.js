// A click on the head of a column sorts by it. Heads become buttons only when
// this runs.
"use strict";
for (const table of document.querySelectorAll("table")) {
  const heads = [...table.tHead.rows[0].cells];
  const body = table.tBodies[0];
  const value = (row, column) => {
    const cell = row.cells[column];
    const number = cell.dataset.value;
    if (number === undefined) return cell.textContent;
    return number === "" ? null : Number(number);
  };
  const compare = (a, b) =>
    typeof a === "string" ? a.localeCompare(b, "en") : a - b;
  heads.forEach((head, column) => {
    const button = document.createElement("button");
    button.type = "button";
    button.append(...head.childNodes);
    head.append(button);
    button.addEventListener("click", () => {
      const falls = head.getAttribute("aria-sort") === "ascending";
      for (const other of heads) other.removeAttribute("aria-sort");
      head.setAttribute("aria-sort", falls ? "descending" : "ascending");
      const sorted = [...body.rows].sort((first, second) => {
        const a = value(first, column), b = value(second, column);
        // What is not known comes last in either direction.
        if (a === null || b === null) return (a === null) - (b === null);
        return falls ? compare(b, a) : compare(a, b);
      });
      body.append(...sorted);
    });
  });
}
