;;; rlm-draw-answer.el --- Draw the answer of a run and what it rests on  -*- lexical-binding: t; -*-

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

;; The events of the answer: its text, its evidence and provenance, how it
;; differs from an earlier one, and a kept answer to a similar question.

;;; Code:

(require 'cl-lib)
(require 'org)
(require 'rlm-draw)
(require 'rlm-node)
(require 'rlm-node-blocks)
(require 'rlm-node-parts)
(require 'rlm-org)
(require 'rlm-provenance)
(require 'rlm-run)

(declare-function url-unhex-string "url-util" (str &optional allow-newlines))

(cl-defmethod rlm-draw-event ((_ (eql 'answer)) event run)
  "Draw EVENT, the answer of RUN or a piece of it."
  (let* ((begun (gethash "answer" rlm-node-table))
         (node (or begun (rlm-draw--begin-answer event)))
         (typed (eq (plist-get event :typed) t)))
    (setf (rlm-run-answer run) (concat (rlm-run-answer run) (plist-get event :text))
          (rlm-run-typed run) typed)
    (when (and typed (not begun))
      (rlm-node-write node 'prose "```json\n"))
    (rlm-node-write node 'prose (plist-get event :text))
    (unless (eq (plist-get event :more) t)
      (when typed
        (rlm-node-write node 'prose "\n```\n"))
      (rlm-node-end-part node)
      (rlm-draw--evidence-list run node (plist-get event :evidence))
      (rlm-provenance-draw run node))))

(defun rlm-draw--begin-answer (event)
  "Add the heading for the answer that EVENT begins."
  (rlm-draw--finish-iteration "0")
  (rlm-node-add "answer" (rlm-draw--root)
                (if (eq (plist-get event :partial) t)
                    "Answer so far"
                  "Answer")))

(cl-defmethod rlm-draw-event ((_ (eql 'semanticHit)) event run)
  "Draw, for EVENT, that the kept answer to a similar question answers RUN."
  (setf (rlm-run-similar run) (plist-get event :originalQuestion))
  (let* ((id (plist-get event :node))
         (node (rlm-node-add (concat id ".similar") (rlm-draw--node id)
                             "Kept answer to a similar question")))
    (rlm-node-set
     node `(("RLM_CACHED" . "t")
            ("RLM_ORIGINAL_RUN" . ,(plist-get event :originalRunId))
            ("RLM_ORIGINAL_TIME" . ,(format-time-string "[%F %a %T]"
                                                        (plist-get event :originalTime)))
            ("RLM_SIMILARITY" . ,(format "%.3f" (plist-get event :similarity)))))
    (rlm-node-append
     node (format "Answered on %s, similar by %.3f:\n"
                  (format-time-string "%F %R" (plist-get event :originalTime))
                  (plist-get event :similarity)))
    (rlm-node-example node (plist-get event :originalQuestion))))

(cl-defmethod rlm-draw-event ((_ (eql 'answerDiff)) event _run)
  "Draw EVENT, how the answer differs from that of the run it reran."
  (let* ((node (rlm-node-add "diff" (rlm-draw--root) "Changes of the answer"))
         (diff (plist-get event :diff)))
    (rlm-node-set node `(("RLM_RERUN_OF" . ,(plist-get event :originalRunId))))
    (if (eq (plist-get event :same) t)
        (rlm-node-append node "It is the same as before.\n")
      (let ((block (rlm-block-open node (rlm-node-body node) "#+begin_src diff" "#+end_src"
                                   (rlm-org-block-filter rlm-line-limit))))
        (rlm-block-write node block diff)
        (rlm-block-close node block)
        (set-marker (rlm-block-after block) nil)))))

;;;; What it rests on

(cl-defmethod rlm-draw-event ((_ (eql 'provenance)) event run)
  "Note in RUN what the answer is drawn from, EVENT; it is drawn with the answer."
  (setf (rlm-run-provenance run) event)
  (when-let ((read (plist-get event :read)))
    (rlm-node-set (rlm-draw--root)
                  `(("RLM_READ" . ,(rlm-provenance-share
                                    read (plist-get event :characters)))))))

(defun rlm-draw--evidence-list (run answer evidence)
  "Draw EVIDENCE, a vector, below the node ANSWER, and note it in RUN."
  (setf (rlm-run-evidence run) (mapcar #'rlm-draw--evidence evidence))
  (when (rlm-run-evidence run)
    (let ((node (rlm-node-add "evidence" answer "Evidence")))
      (dolist (place (rlm-run-evidence run))
        (rlm-node-append node (rlm-draw-place-line place))))))

(defun rlm-draw--evidence (evidence)
  "Return EVIDENCE, a plist, as (FILE-OR-URI LINE PATH QUOTE)."
  (let* ((location (plist-get evidence :location))
         (uri (plist-get location :uri))
         (line (1+ (plist-get (plist-get (plist-get location :range) :start) :line))))
    (list (rlm-draw-file uri (and rlm-run-current (rlm-run-host rlm-run-current))) line
          (plist-get evidence :path) (plist-get evidence :quote))))

(defun rlm-draw-file (uri &optional host)
  "Return the name of the file that URI means on HOST, or URI itself.
HOST is nil for this machine, or a beginning for TRAMP."
  (require 'url-util)
  (cond ((string-match "\\`file://\\(?:localhost\\)?\\(/.*\\)\\'" uri)
         (concat host (decode-coding-string (url-unhex-string (match-string 1 uri)) 'utf-8)))
        (t uri)))

(defun rlm-draw-place-line (place)
  "Return the line for PLACE, a list as in `rlm-run-evidence'."
  (pcase-let* ((`(,file ,line ,path ,quote) place)
               (name (format "%s:%d" (rlm-org-line path) line)))
    (propertize
     (format "- %s %s\n"
             (if (string-prefix-p "/" file)
                 (org-link-make-string (format "file:%s::%d" file line) name)
               name)
             (rlm-org-quotation quote 200))
     'rlm-evidence (list file line))))

(provide 'rlm-draw-answer)
;;; rlm-draw-answer.el ends here
