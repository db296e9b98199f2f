;;; ob-rlm.el --- Org Babel functions for questions to rlm  -*- lexical-binding: t; -*-

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

;; A source block of the language rlm is a question:
;;
;;   #+begin_src rlm :context ~/src/harbour :budget 0.50 :var prices=prices
;;   Which boats cost more than they should?
;;   #+end_src
;;
;; It is asked in the background.  A placeholder with a link to the run
;; stands where the result will be; when the run has ended, the result takes
;; its place, wherever it is by then.  Where a result is needed at once, in
;; exports, in batch and in references from other blocks, it is waited for,
;; though not for ever.
;;
;; Have it known to Org by `org-babel-do-load-languages', or by
;;
;;   (require 'ob-rlm)

;;; Code:

(require 'subr-x)
(require 'ob)
(require 'org-src)
(require 'rlm)
(require 'rlm-ol)                       ; the results have links

(declare-function rlm-babel-ask "rlm-babel" (body params))
(autoload 'rlm-babel-show-job "rlm-babel-job")

(defcustom rlm-babel-timeout 900
  "Seconds to wait for an answer where it is needed at once.
That is in exports, in batch, in references from other blocks, and with the
header argument \":async no\".  The header argument \":timeout\" goes before.
A run that takes longer is cancelled, and its best answer so far is taken."
  :group 'rlm
  :type 'rlm-amount
  :package-version '(rlm . "0.1.0"))

(defvar org-babel-default-header-args:rlm
  `((:results . "replace")
    (:exports . "both")
    ;; What has an answer is not asked again by an export.
    (:eval . ,(lambda () (if (and org-babel-exp-reference-buffer (rlm-babel--result-p))
                             "no-export"
                           "yes"))))
  "Default header arguments of rlm blocks.")

(defvar org-babel-header-args:rlm)      ; org-lint and completion look for it
(set 'org-babel-header-args:rlm
     '((context . :any) (model . :any) (sub-model . :any) (depth . :any) (budget . :any)
       (seconds . :any) (iterations . :any) (preset . :any) (fresh . ((yes no)))
       (async . ((yes no))) (timeout . :any)))

(defun rlm-babel--result-p ()
  "Return non-nil if the block at point has a result that is not empty."
  (ignore-errors
    (when-let ((start (org-babel-where-is-src-block-result)))
      (save-excursion
        (goto-char start)
        (forward-line)
        (not (looking-at-p "[ \t]*$"))))))

;; Results that another Emacs has waited for have links too.
(add-hook 'rlm-ol-open-functions #'rlm-babel-show-job)

;; A question is prose, where it is edited in a buffer of its own.
(add-to-list 'org-src-lang-modes '("rlm" . text))

;;;###autoload
(defun org-babel-execute:rlm (body params)
  "Ask the question BODY as PARAMS, the header arguments of the block, say.
This function is called by `org-babel-execute-src-block'."
  ;; Who has the language known to Org may never ask.
  (require 'rlm-babel)
  (rlm-babel-ask body params))

(provide 'ob-rlm)
;;; ob-rlm.el ends here
