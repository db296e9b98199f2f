;;; rlm-run.el --- What is known of a run  -*- lexical-binding: t; -*-

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

;; An `rlm-run' is what the events of a run have told so far; it is what
;; `rlm-after-run-functions' get.  Beside it, figures written for people.

;;; Code:

(require 'cl-lib)
(require 'seq)
(require 'subr-x)

;;;; The run

(cl-defstruct (rlm-run (:constructor rlm-run--make) (:copier nil))
  "One run, as far as its events have told."
  (id nil :documentation "Its id, or nil before the server has given one.")
  (question "" :documentation "The question.")
  (asked nil :documentation "The last further question, or nil.")
  (status "asking" :documentation "The protocol's status, or \"asking\" before the run.")
  (doing "" :documentation "What is being done, where the status is \"running\".")
  (paused nil :documentation "Whether it is paused.")
  (waiting nil :documentation "Code that waits for approval, the oldest first:
plists of :node, :cell, :code and :overlays.")
  model sub-model project
  (host nil :documentation "Where its server is: nil, or a beginning for TRAMP.")
  (limits nil :documentation "Its limits, a plist as in the protocol.")
  (started nil :documentation "Time it began, in seconds since the epoch.")
  (seconds nil :documentation "How long it took, once it has ended.")
  (iterations 0) (subcalls 0) (subcalls-done 0)
  (cached 0 :documentation "How many calls were answered by kept answers.")
  (similar nil :documentation "The similar question whose answer was taken, or nil.")
  (tokens 0 :documentation "Prompt and completion tokens of all calls.")
  (cost 0.0 :documentation "US dollars; nil where a price is unknown.")
  (reason nil :documentation "Why it has ended, in a sentence.")
  (answer nil :documentation "The answer as the model gave it, or nil.")
  (typed nil :documentation "Whether the answer is JSON that fits the schema asked for.")
  (evidence nil :documentation "List of (FILE-OR-URI LINE PATH QUOTE).")
  (provenance nil :documentation "What the answer is drawn from, an event as a plist, or nil.")
  (transcript nil :documentation "File name of the saved transcript, or nil.")
  (log nil :documentation "File name of the log."))

(defconst rlm-run-limit-names
  '((:iterations . "Iterations") (:seconds . "Seconds in all")
    (:cellSeconds . "Seconds of one piece of code") (:subcalls . "Sub-calls")
    (:tokens . "Tokens") (:cost . "Cost"))
  "The limits of a run, as the protocol and as people call them.")

(defun rlm-run-limit-text (name value)
  "Return VALUE of the limit NAME for people; nil is no limit."
  (cond ((null value) "no limit")
        ((eq name :cost) (format "$%.2f" value))
        ((integerp value) (rlm-figure-number value))
        ((= value (ftruncate value)) (rlm-figure-number (truncate value)))
        (t (format "%g" value))))

(defvar-local rlm-run-current nil
  "The run that this buffer shows.")

(defun rlm-run-in-buffer (&optional buffer)
  "Return the run of BUFFER, or nil."
  (buffer-local-value 'rlm-run-current (or buffer (current-buffer))))

(defun rlm-run-summary (run)
  "Return RUN as a plist, as the list of what ran has it, with its host."
  (list :runId (rlm-run-id run) :question (rlm-run-question run) :status (rlm-run-status run)
        :rootModel (rlm-run-model run)
        :log (and (rlm-run-log run) (file-local-name (rlm-run-log run)))
        :host (rlm-run-host run)))

(defun rlm-run-live-p (run)
  "Return non-nil if RUN has not ended, as far as is known."
  (and (member (rlm-run-status run) '("asking" "running")) t))

(defun rlm-run-live-buffers ()
  "Return each buffer whose run is going on, but no indirect ones of it."
  (seq-filter (lambda (buffer)
                (let ((run (rlm-run-in-buffer buffer)))
                  (and run (rlm-run-live-p run) (not (buffer-base-buffer buffer)))))
              (buffer-list)))

(defun rlm-run-waiting-cell (run node cell)
  "Return what waits in RUN for approval as CELL of NODE, or nil."
  (cl-find-if (lambda (wait)
                (and (equal node (plist-get wait :node))
                     (equal cell (plist-get wait :cell))))
              (rlm-run-waiting run)))

(defun rlm-run-value (run)
  "Return the typed answer of RUN as Lisp, or nil if its answer is not typed.
Objects are plists and arrays vectors; null is nil, false is `:json-false'."
  (and (rlm-run-typed run)
       (json-parse-string (rlm-run-answer run) :object-type 'plist
                          :null-object nil :false-object :json-false)))

(defun rlm-run-elapsed (run)
  "Return for how many seconds RUN has been or was going on, or nil."
  (or (rlm-run-seconds run)
      (and (rlm-run-started run) (max 0 (- (float-time) (rlm-run-started run))))))

;;;; Figures

(defun rlm-figure-number (number)
  "Return NUMBER with commas between its thousands."
  (let ((digits (number-to-string number)))
    (while (string-match "\\([0-9]\\)\\([0-9]\\{3\\}\\)\\(,\\|\\'\\)" digits)
      (setq digits (replace-match "\\1,\\2\\3" t nil digits)))
    digits))

(defun rlm-figure-count (number noun)
  "Return NUMBER with NOUN in the singular or plural."
  (format "%s %s%s" (rlm-figure-number number) noun (if (= number 1) "" "s")))

(defun rlm-figure-size (bytes)
  "Return BYTES for people."
  (cond ((< bytes 1000) (format "%d bytes" bytes))
        ((< bytes 1000000) (format "%.1f kB" (/ bytes 1e3)))
        ((< bytes 1000000000) (format "%.1f MB" (/ bytes 1e6)))
        (t (format "%.1f GB" (/ bytes 1e9)))))

(defun rlm-figure-cost (cost)
  "Return COST in US dollars for people; nil is unknown."
  (cond ((null cost) "unknown")
        ((zerop cost) "0")
        ((< cost 0.000005) "less than $0.00001")
        ((< cost 0.01) (format "$%.5f" cost))
        (t (format "$%.2f" cost))))

(defun rlm-figure-decimal (cost)
  "Return COST in US dollars as a plain number.
Nil is unknown."
  (cond ((null cost) "unknown")
        ((zerop cost) "0")
        (t (string-trim-right (format "%.6f" cost) "\\.?0+"))))

(defun rlm-figure-seconds (seconds)
  "Return SECONDS for people."
  (cond ((< seconds 10) (format "%.2f s" seconds))
        ((< seconds 60) (format "%.0f s" seconds))
        (t (format "%d:%02d min" (/ (floor seconds) 60) (% (floor seconds) 60)))))

(defun rlm-figure-clock (seconds)
  "Return SECONDS as minutes and seconds."
  (format "%d:%02d" (/ (floor seconds) 60) (% (floor seconds) 60)))

(provide 'rlm-run)
;;; rlm-run.el ends here
