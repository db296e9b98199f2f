;;; rlm-draw.el --- Draw the events of a run  -*- lexical-binding: t; -*-

;; This program is free software: you can redistribute it and/or modify
;; it under the terms of the GNU General Public License as published by
;; the Free Software Foundation, either version 3 of the License, or
;; (at your option) any later version.

;; This program is distributed in the hope that it will be useful,
;; but WITHOUT ANY WARRANTY; without even the implied warranty of
;; MERCHANTABILITY or FITNESS FOR A PARTICULAR PURPOSE.  See the
;; GNU General Public License for more details.

;; You should have received a copy of the GNU General Public License
;; along with this program.  If not, see <https://www.gnu.org/licenses/>.

;;; Commentary:

;; There is one method of `rlm-draw-event' for each kind of event.  It notes
;; in the `rlm-run' what the event tells, and writes into the current buffer
;; what a person shall read.  Here is what the methods share; they are in
;; rlm-draw-run.el, rlm-draw-calls.el, rlm-draw-answer.el and
;; rlm-draw-steering.el.

;;; Code:

(require 'cl-lib)
(require 'subr-x)
(require 'rlm-org)
(require 'rlm-node)
(require 'rlm-node-parts)
(require 'rlm-run)
(require 'rlm-tally)

;;;; Events

(defun rlm-draw (event)
  "Draw EVENT, a plist, into the current buffer."
  (let ((run rlm-run-current))
    (unless (rlm-run-id run)
      (setf (rlm-run-id run) (plist-get event :runId)))
    (setq rlm-tally-time (or (plist-get event :time) rlm-tally-time))
    (rlm-draw-event (intern (plist-get event :kind)) event run)))

(cl-defgeneric rlm-draw-event (_kind _event _run)
  "Draw an EVENT of KIND that belongs to RUN into the current buffer.
Events of unknown kinds come from newer servers and are passed over."
  nil)

(cl-defmethod rlm-draw-event ((_ (eql 'void)) _event _run)
  "Draw nothing: this event does not count any more, or is lost."
  nil)

(cl-defmethod rlm-draw-event ((_ (eql 'notice)) event _run)
  "Draw a notice, EVENT."
  (rlm-draw--item (plist-get event :node) (capitalize (plist-get event :level))
                  (plist-get event :text)))

;;;; Nodes

(defvar-local rlm-draw--iterations nil
  "Alist of the newest iterations by the id of the run or child run above.")

(defun rlm-draw-question ()
  "Draw the heading of the run, before it has begun."
  (save-excursion
    (rlm-draw--root)))

(defun rlm-draw-buffer-name (question)
  "Return the name of a buffer for a run that answers QUESTION."
  (format "*rlm: %s*" (rlm-org-line question 50)))

(defun rlm-draw--root ()
  "Return the node of the run itself; add it if need be."
  (or (gethash "0" rlm-node-table)
      (rlm-node-add
       "0" nil (rlm-org-line (rlm-run-question rlm-run-current) 200))))

(defun rlm-draw--node (id)
  "Return the node ID, or the nearest there is above it."
  (or (gethash id rlm-node-table)
      (if (string-search "." id)
          (rlm-draw--node (rlm-node-id-above id))
        (rlm-draw--root))))

(defun rlm-draw--parent (id)
  "Return the node above the node ID."
  (rlm-draw--node (rlm-node-id-above id)))

(defun rlm-draw--item (id label text)
  "Draw TEXT with LABEL as an item of the node ID, or of its newest iteration."
  (let ((node (or (cdr (assoc id rlm-draw--iterations)) (rlm-draw--node id))))
    (rlm-node-end-part node)
    (let ((place (rlm-node-body node)))
      (rlm-node-append
       node (format "%s- *%s*: %s\n" (rlm-node-fresh-line place) label
                    (rlm-org-line text 1000))))))

(defun rlm-draw--error (node problem)
  "Append PROBLEM, an error as in the protocol, to NODE.
What the node says already is not said again."
  (let ((text (string-join (seq-remove #'string-empty-p
                                       (list (plist-get problem :message)
                                             (or (plist-get problem :cure) "")))
                           " ")))
    (unless (string-search (rlm-org-prose text)
                           (buffer-substring-no-properties (rlm-node-drawer node)
                                                           (rlm-node-body node)))
      (rlm-node-paragraph node text))))

(defun rlm-draw--note-usage (run usage)
  "Note USAGE, a plist, in RUN."
  (setf (rlm-run-tokens run) (+ (plist-get usage :promptTokens)
                                (plist-get usage :completionTokens))
        (rlm-run-cost run) (plist-get usage :cost)))

;;;; The end of an iteration

(defun rlm-draw--finish-iteration (above)
  "End the newest iteration of the run or child run ABOVE, an id.
Put its first sentence in its heading, and fold it."
  (when-let ((node (cdr (assoc above rlm-draw--iterations))))
    (let ((summary (rlm-draw--sentence (rlm-node-summary node))))
      (rlm-draw--close-below node)
      (rlm-node-close node)
      (unless (string-empty-p summary)
        (rlm-node-retitle node (concat ": " summary)))
      (rlm-tally-show node)
      (rlm-node-fold node)
      (rlm-node-release node)
      (setq rlm-draw--iterations
            (seq-remove (lambda (open) (rlm-draw--at-or-below-p (car open) above))
                        rlm-draw--iterations)))))

(defun rlm-draw--at-or-below-p (id above)
  "Return non-nil if the node ID is the node ABOVE or below it."
  (or (equal id above) (string-prefix-p (concat above ".") id)))

(defun rlm-draw--close-below (node)
  "Close and release what is still open below NODE."
  (dolist (other (hash-table-values rlm-node-table))
    (when (eq node (rlm-node-parent other))
      (rlm-draw--close-below other)
      (rlm-node-close other)
      (rlm-node-release other))))

(defconst rlm-draw--signs '(?\s ?\t ?# ?* ?> ?` ?-)
  "Signs that begin or end a line of Markdown and mean nothing in a heading.")

(defun rlm-draw--sentence (text)
  "Return the first sentence of TEXT, fit for a heading."
  (let ((text (if (string-search "**" text)
                  (replace-regexp-in-string "\\*\\*\\(.+?\\)\\*\\*" "\\1" text)
                text))
        (beg 0) (end 0))
    (while (and (< beg (length text))
                (or (eq (aref text beg) ?\n) (memq (aref text beg) rlm-draw--signs)))
      (setq beg (1+ beg)))
    (let ((line (rlm-draw--without-ends (substring text beg (string-search "\n" text beg))
                                        rlm-draw--signs)))
      (while (and (< end (length line))
                  (not (and (memq (aref line end) '(?. ?! ?? ?:))
                            (or (= (1+ end) (length line)) (eq (aref line (1+ end)) ?\s)))))
        (setq end (1+ end)))
      (rlm-draw--without-ends (rlm-org-line (substring line 0 end) 80) '(?* ?:)))))

(defun rlm-draw--without-ends (text signs)
  "Return TEXT without SIGNS at its ends."
  (let ((beg 0) (end (length text)))
    (while (and (< beg end) (memq (aref text beg) signs))
      (setq beg (1+ beg)))
    (while (and (< beg end) (memq (aref text (1- end)) signs))
      (setq end (1- end)))
    (substring text beg end)))

(provide 'rlm-draw)
;;; rlm-draw.el ends here
